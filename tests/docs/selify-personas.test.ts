import { expect, test } from "vitest";
import { useStack } from "../e2e/stack.ts";
import { hangTee, runPage, sample, signUp } from "./selify.ts";

const s = useStack();
const picture = async (url: string) => (await fetch(url)).headers.get("content-type");

test("personas and VR shops work as their page says", async () => {
  const person = await signUp(s, 1_000_000);
  await runPage(
    s,
    "personas.md",
    person,
    {
      mia: ({ mia }) => expect(mia).toMatchObject({ name: "Mia", role: "model" }),
      preferred: async ({ chosen, faces, preferred }) => {
        expect(chosen).toMatchObject({ selected_face_index: 2, face_paths: { length: 4 } });
        expect(await picture(faces[2])).toMatch(/^image\//);
        expect(preferred.is_default).toBe(true);
      },
      posed: ({ trained, history, using, posed }) => {
        expect(trained).toMatchObject({ status: "completed", version: 1, image_count: 4 });
        expect(history).toMatchObject([{ version: 1 }]);
        expect(using).toMatchObject({ lora_version: 1, lora_status: "ready" });
        expect(posed).toMatchObject({ status: "completed" });
      },
      hung: ({ assetRefused, hung }) => expect([assetRefused, typeof hung.id]).toEqual([null, "string"]),
      token: ({ token }) => expect(token.token).toMatch(/^vrt_/),
      fitting: async ({ front, hung, fitting }) => {
        expect(front).toMatchObject({ name: "Atelier", garments: [{ id: hung.id, price_cents: 8900 }] });
        expect(fitting).toMatchObject({ status: "completed", error: null });
        expect(await picture(fitting.result_url)).toMatch(/^image\//);
      },
      usage: ({ fittings, usage, revokeRefused }) => {
        expect(fittings).toMatchObject([{ status: "completed" }]);
        expect(usage).toMatchObject([{ tryons: 1, successful: 1, failed: 0 }]);
        expect(revokeRefused).toBeNull();
      },
    },
    {
      garmentId: (await hangTee(s, person)).garmentId,
      personFile: await sample("person-ada.jpg", "image/jpeg"),
      dressModel: new Blob(["glTF"]),
    },
  );
}, 180_000);
