/**
 * H.264 in an MP4: every picture that is given is one frame of the file, in its order.
 *
 *     const video = new Mp4(canvas, rate);         // where await encodes(width, height)
 *     video.add();                                 // what the canvas shows now
 *     const blob = await video.finish();
 *
 * ISO/IEC 14496-12 and -15: one track, all samples of one length and in one chunk.
 */

const CODEC = "avc1.42E028"; // baseline, whose frames come in the order in which they are shown
const BITS = 6e6; // a second; squares of one colour are hard to encode
const TICKS = 1000; // that a frame lasts
const MOST_WAITING = 32; // frames; each of them is a whole picture in memory

export async function encodes(width, height) {
  if (!globalThis.VideoEncoder) return false; // plain http from another machine, or an old browser
  try {
    return (await VideoEncoder.isConfigSupported(asked(width, height, 30))).supported;
  } catch {
    return false;
  }
}

export class Mp4 {
  constructor(canvas, rate) {
    Object.assign(this, { canvas, rate, chunks: [], keys: [], record: null, failure: null });
    this.added = 0;
    this.encoder = new VideoEncoder({
      output: (chunk, about) => this.take(chunk, about),
      error: (error) => (this.failure = error),
    });
    this.encoder.configure(asked(canvas.width, canvas.height, rate));
  }

  /** Whether no more frames can be added. */
  get isFull() {
    return Boolean(this.failure) || this.encoder.encodeQueueSize > MOST_WAITING;
  }

  /** Never throws: what goes wrong is told by `isFull` and `finish`, not in the middle of play. */
  add() {
    if (this.failure) return;
    try {
      const timestamp = Math.round((1e6 * this.added) / this.rate);
      const frame = new VideoFrame(this.canvas, { timestamp });
      this.encoder.encode(frame, { keyFrame: this.added % Math.ceil(this.rate) === 0 });
      frame.close();
      this.added += 1;
    } catch (error) {
      this.failure = error;
    }
  }

  async finish() {
    if (!this.failure) await this.encoder.flush();
    if (this.failure) throw this.failure;
    this.encoder.close();
    if (this.chunks.length !== this.added) throw new Error("The browser lost frames of the clip.");
    return new Blob(this.parts(), { type: "video/mp4" });
  }

  take(chunk, about) {
    const bytes = new Uint8Array(chunk.byteLength);
    chunk.copyTo(bytes);
    this.chunks.push(bytes);
    if (chunk.type === "key") this.keys.push(this.chunks.length);
    if (!this.record && about.decoderConfig) {
      this.record = [...new Uint8Array(about.decoderConfig.description)];
    }
  }

  parts() {
    const sizes = this.chunks.map((bytes) => bytes.length);
    const head = box("ftyp", text("isom"), u32(512), text("isomiso2avc1mp41"));
    const before = head.length + this.index(sizes, 0).length + 8;
    const total = sizes.reduce((sum, size) => sum + size, 8);
    const parts = [head, this.index(sizes, before), [...u32(total), ...text("mdat")]];
    return [...parts.map((part) => Uint8Array.from(part)), ...this.chunks];
  }

  /** The box that says where each frame lies; the first at `offset`. */
  index(sizes, offset) {
    const { width, height } = this.canvas;
    const scale = Math.round(TICKS * this.rate);
    const count = sizes.length;
    const length = count * TICKS;
    const unity = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);
    const entry = box(
      "avc1",
      [...zeros(6), ...u16(1), ...zeros(16), ...u16(width, height)],
      [...u32(0x480000, 0x480000, 0), ...u16(1), ...zeros(32), ...u16(24, 0xffff)],
      box("avcC", this.record),
    );
    const table = box(
      "stbl",
      box("stsd", u32(0, 1), entry),
      box("stts", u32(0, 1, count, TICKS)),
      box("stss", u32(0, this.keys.length, ...this.keys)),
      box("stsc", u32(0, 1, 1, count, 1)),
      box("stsz", u32(0, 0, count), sizes.flatMap((size) => u32(size))),
      box("stco", u32(0, 1, offset)),
    );
    const here = box("dinf", box("dref", u32(0, 1), box("url ", u32(1))));
    const media = box(
      "mdia",
      box("mdhd", u32(0, 0, 0, scale, length), u16(0x55c4, 0)),
      box("hdlr", u32(0, 0), text("vide"), zeros(13)),
      box("minf", box("vmhd", u32(1, 0, 0)), here, table),
    );
    const shown = [...u32(3, 0, 0, 1, 0, length, 0, 0, 0, 0), ...unity];
    const track = box("trak", box("tkhd", shown, u32(width << 16, height << 16)), media);
    const movie = [...u32(0, 0, 0, scale, length, 0x10000), ...u16(0x100), ...zeros(10), ...unity];
    return box("moov", box("mvhd", movie, zeros(24), u32(2)), track);
  }
}

function asked(width, height, framerate) {
  return { codec: CODEC, width, height, framerate, bitrate: BITS, avc: { format: "avc" } };
}

function box(kind, ...parts) {
  const content = parts.flat();
  return [...u32(content.length + 8), ...text(kind), ...content];
}

function text(letters) {
  return [...letters].map((letter) => letter.charCodeAt(0));
}

function u32(...numbers) {
  return numbers.flatMap((number) => [24, 16, 8, 0].map((shift) => (number >>> shift) & 255));
}

function u16(...numbers) {
  return numbers.flatMap((number) => [number >> 8, number & 255]);
}

function zeros(count) {
  return new Array(count).fill(0);
}
