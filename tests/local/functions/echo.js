// A function of these tests: says what reached it, and ends on request.

Deno.serve(async (request) => {
  const { pathname, search } = new URL(request.url);
  if (pathname.endsWith("/end")) Deno.exit(3);
  return Response.json({
    method: request.method,
    path: pathname + search,
    headers: Object.fromEntries(request.headers),
    body: await request.text(),
    pid: Deno.pid,
    env: Object.keys(Deno.env.toObject()),
    canRead: await Deno.readTextFile("/etc/hosts").then(
      () => true,
      () => false,
    ),
  });
});
