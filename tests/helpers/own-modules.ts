import { vi } from "vitest";

// A worker that runs file after file keeps the libraries it has loaded; ours begin anew with each file, because their
// hooks, connections and bindings are the file's.
vi.resetModules();
