// Who may do what in each bucket of storage. A test demands that every bucket is here.

export const ranks = [
  "anon",
  "stranger",
  "outsider",
  "former",
  "suspended",
  "viewer",
  "member",
  "editor",
  "service",
] as const;
/** outsider: owner of another workspace's files; former: was a member until now; suspended: an editor. */
export type Actor = (typeof ranks)[number];
type Rank = "viewer" | "member" | "editor" | "service";

export interface Place {
  bucket: string;
  /** Below the workspace's folder; special ones have rules of their own. */
  folder: string;
  /** Everybody may read by address. */
  public?: true;
  /** From which rank on. */
  reads: Rank;
  uploads: Rank;
  replaces: Rank;
  removes: Rank;
  /** Whether who uploaded may replace and remove it as a member. */
  own: boolean;
  type: string;
  wrongType: string;
  /** In bytes. */
  limit: number;
}

const MiB = 1024 * 1024;
const uploads = { bucket: "studio-uploads", type: "image/png", wrongType: "text/html", limit: 20 * MiB };
const service = { reads: "service", uploads: "service", replaces: "service", removes: "service" } as const;

export const places: Place[] = [
  {
    ...uploads,
    folder: "",
    reads: "viewer",
    uploads: "member",
    replaces: "editor",
    removes: "editor",
    own: true,
  },
  // Visitors of shops lend their photos to the service alone.
  { ...uploads, ...service, folder: "visitors/shop/", own: false },
  // What people sent to the bot is seen in the conversation.
  { ...uploads, ...service, folder: "instagram/talk/", reads: "viewer", removes: "editor", own: false },
  {
    ...service,
    bucket: "studio-results",
    folder: "",
    reads: "viewer",
    removes: "editor",
    own: false,
    type: "image/webp",
    wrongType: "image/svg+xml",
    limit: 50 * MiB,
  },
  {
    ...service,
    bucket: "studio-loras",
    folder: "",
    own: false,
    type: "application/zip",
    wrongType: "image/png",
    limit: 512 * MiB,
  },
  {
    bucket: "vr-assets",
    folder: "",
    public: true,
    reads: "viewer",
    uploads: "editor",
    replaces: "editor",
    removes: "editor",
    own: false,
    type: "model/gltf-binary",
    wrongType: "text/html",
    limit: 50 * MiB,
  },
  {
    bucket: "commerce-imports",
    folder: "",
    reads: "viewer",
    uploads: "member",
    replaces: "service",
    removes: "editor",
    own: false,
    type: "text/csv",
    wrongType: "text/html",
    limit: 50 * MiB,
  },
  {
    bucket: "knowledge-documents",
    folder: "",
    reads: "viewer",
    uploads: "member",
    replaces: "service",
    removes: "editor",
    own: false,
    type: "application/pdf",
    wrongType: "application/zip",
    limit: 20 * MiB,
  },
  {
    ...service,
    bucket: "billing-documents",
    folder: "",
    reads: "viewer",
    own: false,
    type: "application/pdf",
    wrongType: "text/html",
    limit: MiB,
  },
];

export const may = (actor: Actor, rank: Rank): boolean => ranks.indexOf(actor) >= ranks.indexOf(rank);
