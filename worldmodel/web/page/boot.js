/*
 * Starts the page's modules. A classic script, since from a disk no module is loaded: there it says
 * so, or takes the page's files from the HTML itself (`worldmodel web --single`).
 */

(() => {
  "use strict";

  const LONGEST_WAIT = 5000; // ms, for a service worker to begin

  const say = (sentence) => {
    document.body.dataset.state = "error";
    document.querySelector("#message").textContent = sentence;
  };

  const carried = [...document.querySelectorAll("script[data-file]")];
  const here = document.currentScript?.src;

  const decode = (text) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
  };

  const fromItself = () => {
    const blobs = {};
    for (const node of carried) {
      const path = node.dataset.file;
      const type = path.endsWith(".js") ? "text/javascript" : "";
      blobs[path] = new Blob([decode(node.textContent.trim())], { type });
      node.remove();
    }
    const addressOf = (path) => URL.createObjectURL(blobs[path]);
    return {
      main: addressOf("page/main.js"),
      worker: addressOf("page/worker.js"),
      workerType: "classic", // from a disk no other is started
      base: null,
      blobs,
    };
  };

  const fromServer = () => ({
    main: new URL("main.js", here).href,
    worker: new URL("worker.js", here).href,
    workerType: "module",
    base: new URL("..", here).href,
    blobs: null,
  });

  /* Whether the page is loaded anew, this time with the headers that isolate.js adds. */
  const isolated = async () => {
    const asked = new URLSearchParams(location.search).get("isolate");
    if (self.crossOriginIsolated || carried.length || asked === "no") return false;
    try {
      if (sessionStorage.getItem("isolate")) return false; // it was tried, and did not help
      await navigator.serviceWorker.register(new URL("../isolate.js", here));
      await new Promise((resolve) => {
        if (navigator.serviceWorker.controller) resolve();
        navigator.serviceWorker.addEventListener("controllerchange", resolve);
        setTimeout(resolve, LONGEST_WAIT);
      });
      if (!navigator.serviceWorker.controller) return false; // the next visit will find it ready
      sessionStorage.setItem("isolate", "tried");
    } catch {
      return false; // no secure context, or storage is off: one core must do
    }
    location.reload();
    return true;
  };

  if (!carried.length && location.protocol === "file:") {
    say(
      "A browser opens this page only from a web server: run python -m http.server in its folder, " +
        "or make one file that opens from a disk with worldmodel web --single.",
    );
    return;
  }
  if (typeof Worker === "undefined" || typeof WebAssembly === "undefined") {
    say("This browser cannot play: it has no WebAssembly, or no workers.");
    return;
  }
  const begin = async () => {
    if (await isolated()) return;
    const from = carried.length ? fromItself() : fromServer();
    const page = await import(from.main);
    await page.start(from);
  };
  begin().catch((error) => say(`This page could not be started: ${error.message}`));
})();
