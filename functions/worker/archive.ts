import { Zip, ZipPassThrough } from "fflate";

export interface ArchivedFile {
  name: string;
  body: ReadableStream<Uint8Array>;
}

/**
 * A zip archive of files, made while it is read: no file is ever held as a whole. Pictures do not compress, so they
 * are stored as they are.
 */
export function zipOf(files: AsyncIterable<ArchivedFile>): ReadableStream<Uint8Array> {
  const made = parts(files);
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await made.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await made.return(undefined);
    },
  });
}

async function* parts(files: AsyncIterable<ArchivedFile>): AsyncGenerator<Uint8Array> {
  const ready: Uint8Array[] = [];
  const zip = new Zip((error, part) => {
    if (error) throw error;
    ready.push(part);
  });
  for await (const { name, body } of files) {
    const entry = new ZipPassThrough(name);
    zip.add(entry);
    for await (const chunk of body) {
      entry.push(chunk);
      yield* ready.splice(0);
    }
    entry.push(new Uint8Array(0), true);
    yield* ready.splice(0);
  }
  zip.end();
  yield* ready.splice(0);
}
