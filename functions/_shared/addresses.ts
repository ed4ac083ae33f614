// Where an address that somebody else gives us may lead. What is not listed is not fetched: a listed host cannot
// stand for a private one.

/** Reads a base such as https://fal.media, https://*.fal.media (all its sub-domains) or https://host/folder. */
export function addressBase(text: string): URL | null {
  const base = URL.parse(text);
  return base && /^https?:$/.test(base.protocol) && !base.username && !base.search && !base.hash
    ? base
    : null;
}

/** Does the address lie below one of the bases? Protocol, host and port are the base's, the path begins with its. */
export function isBelow(address: URL, bases: readonly URL[]): boolean {
  if (address.username !== "" || address.password !== "") return false;
  return bases.some(
    (base) =>
      address.protocol === base.protocol &&
      address.port === base.port &&
      hostFits(address.hostname, base.hostname) &&
      address.pathname.startsWith(base.pathname.replace(/\/*$/, "/")),
  );
}

function hostFits(host: string, base: string): boolean {
  return base.startsWith("*.") ? host.endsWith(base.slice(1)) : host === base;
}
