// A function of these tests that stands for the worker: counts how often it was started.

let started = 0;

Deno.serve((request) => {
  if (request.method === "POST") started += 1;
  return Response.json({ started, key: request.headers.get("apikey") });
});
