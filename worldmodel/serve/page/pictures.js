/**
 * What comes over the socket becomes something to draw.
 *
 *     const h264 = await decodesH264();          // whether to ask for it
 *     const pictures = new Pictures();           // one for each connection
 *     const picture = await pictures.decode(bytes, serial); // drawImage(picture, 0, 0); picture.close()
 *
 * PNG and JPEG stand for themselves. H.264 comes as Annex B, a frame at a time, each after the one
 * before; the first one is a key frame, and so is every other that begins with its parameter sets.
 */

const WAIT = 3000; // milliseconds until a decoder that gives nothing counts as broken
const COMMON = "avc1.42e01f"; // what is asked about: baseline, up to 1280 x 720
const PARAMETERS = 7; // the kind of the unit that a key frame begins with

/** Whether this browser can; on plain http it cannot, whatever it is. */
export async function decodesH264() {
  if (typeof VideoDecoder === "undefined") return false;
  try {
    return (await VideoDecoder.isConfigSupported({ codec: COMMON, optimizeForLatency: true })).supported;
  } catch {
    return false;
  }
}

/** Where there is an ImageDecoder the bytes stay in this process, which a Blob's do not. */
async function decodeImage(bytes) {
  const plain = { colorSpaceConversion: "none" };
  if (typeof ImageDecoder === "undefined") return createImageBitmap(new Blob([bytes]), plain);
  const type = bytes[0] === 0xff ? "image/jpeg" : "image/png";
  const decoder = new ImageDecoder({ data: bytes, type, ...plain });
  try {
    return (await decoder.decode()).image;
  } finally {
    decoder.close();
  }
}

export class Pictures {
  constructor() {
    this.decoder = null;
    this.codec = "";
    this.coming = new Map(); // serial -> the promise's two ends
  }

  /** A picture to draw and close; a `BrokenVideo` where the browser cannot decode after all. */
  decode(bytes, serial) {
    if (bytes[0] !== 0) return decodeImage(bytes);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.fail(new Error("no picture came")), WAIT);
      this.coming.set(serial, { resolve, reject, timer });
      try {
        this.feed(bytes, serial);
      } catch (error) {
        this.fail(error);
      }
    });
  }

  close() {
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
    for (const { timer } of this.coming.values()) clearTimeout(timer);
    this.coming.clear();
  }

  feed(bytes, serial) {
    const isKey = (bytes[4] & 31) === PARAMETERS;
    if (isKey) this.configure([5, 6, 7].map((at) => bytes[at].toString(16).padStart(2, "0")).join(""));
    this.decoder.decode(new EncodedVideoChunk({
      type: isKey ? "key" : "delta", timestamp: serial * 1000, data: bytes,
    }));
  }

  configure(profile) {
    const codec = `avc1.${profile}`;
    this.decoder ??= new VideoDecoder({
      output: (frame) => this.came(frame),
      error: (error) => this.fail(error),
    });
    if (codec === this.codec) return;
    this.decoder.configure({ codec, optimizeForLatency: true });
    this.codec = codec;
  }

  came(frame) {
    const serial = Math.round(frame.timestamp / 1000);
    const found = this.coming.get(serial);
    if (!found) return frame.close();
    this.coming.delete(serial);
    clearTimeout(found.timer);
    found.resolve(frame);
  }

  fail(cause) {
    const error = new BrokenVideo(cause.message);
    for (const { reject, timer } of this.coming.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.coming.clear();
  }
}

export class BrokenVideo extends Error {}
