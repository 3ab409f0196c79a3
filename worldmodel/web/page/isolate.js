/*
 * A service worker that adds the two headers by which browsers let a page use several cores, for
 * hosts that cannot send them. It keeps nothing and answers for the files of this page alone.
 */

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};
const FOLDER = new URL("./", self.location.href).pathname;
const OWN = /^(|index\.html|(page|world|runtime)\/.*)$/;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const isOwn = origin === self.location.origin && pathname.startsWith(FOLDER);
  if (isOwn && OWN.test(pathname.slice(FOLDER.length))) event.respondWith(answer(event.request));
});

async function answer(request) {
  const found = await fetch(request);
  if (!found.ok || !found.body) return found;
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, headers });
}
