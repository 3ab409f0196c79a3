/**
 * A recording of the canvas as a video file.
 *
 *     const clip = new Clip(screen);   // throws where the browser cannot record
 *     clip.draw();                     // after every frame
 *     const { blob, name } = await clip.stop("doom-rooms");
 */

const KINDS = [
  ["video/mp4;codecs=avc1.42E01E", "mp4"],
  ["video/webm;codecs=vp9", "webm"],
  ["video/webm;codecs=vp8", "webm"],
  ["video/webm", "webm"],
];
const LEAST_ROWS = 480; // small frames are enlarged, since players show a video at its own size

export class Clip {
  constructor(screen) {
    const supported = ([kind]) => globalThis.MediaRecorder?.isTypeSupported(kind);
    const found = KINDS.find(supported);
    if (!found || !screen.captureStream) throw new Error("This browser cannot record a canvas.");
    [this.kind, this.ending] = found;
    this.screen = screen;
    const factor = Math.max(1, Math.ceil(LEAST_ROWS / screen.height));
    this.canvas = document.createElement("canvas");
    this.canvas.width = screen.width * factor;
    this.canvas.height = screen.height * factor;
    this.context = this.canvas.getContext("2d", { alpha: false });
    if (!this.context) throw new Error("There is not enough memory to record.");
    this.parts = [];
    const stream = this.canvas.captureStream();
    this.recorder = new MediaRecorder(stream, { mimeType: this.kind, videoBitsPerSecond: 4e6 });
    this.recorder.ondataavailable = (event) => event.data.size && this.parts.push(event.data);
    this.recorder.start(1000);
    this.began = performance.now();
    this.draw();
  }

  get seconds() {
    return (performance.now() - this.began) / 1000;
  }

  draw() {
    this.context.drawImage(this.screen, 0, 0, this.canvas.width, this.canvas.height);
  }

  stop(name) {
    return new Promise((resolve) => {
      this.recorder.onstop = () => {
        for (const track of this.recorder.stream.getTracks()) track.stop();
        const stamp = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
        const blob = new Blob(this.parts, { type: this.kind.split(";")[0] });
        resolve({ blob, name: `${name}-${stamp}.${this.ending}` });
      };
      this.recorder.stop();
    });
  }
}
