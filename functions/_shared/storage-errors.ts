/** Is there no such object? The storage API answers 400 with the code 404 in its body. */
export function isMissingObject(error: unknown): boolean {
  const { status, statusCode } = error as { status?: number; statusCode?: string };
  return status === 404 || statusCode === "404" || statusCode === "not_found";
}
