/**
 * A page's files: downloads that are checked, or what lies in the page itself.
 *
 *     const files = new Files(base, blobs, onprogress);   // blobs: path -> Blob, or null
 *     files.expect(table);                                // path -> { bytes, sha256 } of world.json
 *     const bytes = await files.read("world/weights.bin");
 *
 * A failure is an Error whose message is a sentence for the person who plays.
 */

export class Files {
  constructor(base, blobs, onprogress = () => {}) {
    this.base = base;
    this.blobs = blobs;
    this.onprogress = onprogress;
    this.table = {};
    this.loaded = 0;
  }

  expect(table) {
    this.table = table;
  }

  /** The bytes of a file; what is compressed is unpacked. */
  async read(path) {
    const bytes = this.blobs ? await this.carried(path) : await this.download(path);
    await this.check(path, bytes);
    return bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzip(path, bytes) : bytes;
  }

  /** The address of a script; what changes has another address. */
  address(path) {
    if (this.blobs) return URL.createObjectURL(this.blobs[path]);
    const known = this.table[path];
    return new URL(known ? `${path}?${known.sha256.slice(0, 12)}` : path, this.base).href;
  }

  async carried(path) {
    const blob = this.blobs[path];
    if (!blob) throw new Error(`${path} is missing in this file; export the page again.`);
    return new Uint8Array(await blob.arrayBuffer());
  }

  async download(path) {
    let answer;
    try {
      const cache = this.table[path] ? "default" : "no-cache";
      answer = await fetch(this.address(path), { cache });
    } catch {
      throw new Error(`${path} could not be downloaded: there is no connection to the server.`);
    }
    if (!answer.ok) throw new Error(`${path} could not be downloaded: the server says ${answer.status}.`);
    const parts = [];
    try {
      for (const reader = answer.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        parts.push(value);
        this.loaded += value.length;
        this.onprogress(this.loaded);
      }
    } catch {
      throw new Error(`${path} could not be downloaded: the connection broke. Reload to try again.`);
    }
    return joined(parts);
  }

  async check(path, bytes) {
    const known = this.table[path];
    if (!known) return;
    // A server may have unpacked what it took for a compressed file; then gzip's own sum is gone.
    if (bytes.length !== known.bytes) {
      throw new Error(
        `${path} holds ${bytes.length} bytes instead of ${known.bytes}: the copy on the server is ` +
          "not whole. Copy the page's folder again.",
      );
    }
    if (!globalThis.crypto?.subtle) return; // plain http: lengths and gzip's own sums must do
    const digest = await crypto.subtle.digest("SHA-256", bytes);
    const found = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0"));
    if (found.join("") !== known.sha256) {
      throw new Error(`${path} is not the file that belongs here. Copy the page's folder again.`);
    }
  }
}

/** What was written by Python's gzip. */
export async function gunzip(path, bytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser is too old for this page: it has no DecompressionStream.");
  }
  const parts = [];
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    for (const reader = stream.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
    }
  } catch {
    throw new Error(`${path} is damaged. Copy the page's folder again.`);
  }
  return joined(parts);
}

/** The weights as the graphs refer to them: fp32, from the bytes that were stored apart. */
export function unpackWeights(sent, { halves, whole }) {
  const weights = new Uint8Array(4 * (halves + whole));
  const words = new Uint32Array(weights.buffer, 0, halves);
  for (let i = 0; i < halves; i++) words[i] = (sent[i] << 24) | (sent[halves + i] << 16);
  weights.set(sent.subarray(2 * halves), 4 * halves);
  return weights;
}

/** A function from entries of world.json to typed arrays in data.bin. */
export function arraysOf(content) {
  const kinds = { float32: Float32Array, uint8: Uint8Array };
  return ({ dtype, shape, offset }) => {
    const count = shape.reduce((a, b) => a * b, 1);
    return new kinds[dtype](content.buffer, content.byteOffset + offset, count);
  };
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
