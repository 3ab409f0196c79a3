/*
 * Starts the page's modules. A classic script, since from a disk no module is loaded: there it says
 * so, or takes the page's files from the HTML itself (`worldmodel web --single`).
 */

(() => {
  "use strict";

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
    const scripts = {};
    for (const node of carried) {
      const bytes = decode(node.textContent.trim());
      const type = /\.js$/.test(node.dataset.file) ? "text/javascript" : "";
      blobs[node.dataset.file] = new Blob([bytes], { type });
      if (node.dataset.file.startsWith("page/")) {
        scripts[node.dataset.file] = new TextDecoder().decode(bytes);
      }
      node.remove();
    }
    const addresses = {};
    const addressOf = (path) => {
      if (!addresses[path]) {
        const source = scripts[path].replace(
          /from "\.\/([\w.-]+)"/g,
          (_, name) => `from "${addressOf(`page/${name}`)}"`,
        );
        addresses[path] = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      }
      return addresses[path];
    };
    return { main: addressOf("page/main.js"), worker: addressOf("page/worker.js"), base: null, blobs };
  };

  const fromServer = () => ({
    main: new URL("main.js", here).href,
    worker: new URL("worker.js", here).href,
    base: new URL("..", here).href,
    blobs: null,
  });

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
  const from = carried.length ? fromItself() : fromServer();
  import(from.main)
    .then((page) => page.start(from))
    .catch((error) => say(`This page could not be started: ${error.message}`));
})();
