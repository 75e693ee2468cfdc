// The two ends of an operator's audio, in the browser's audio thread: 16-bit mono PCM at the context's rate.

const FRAME = 320; // 20 ms at 16,000 Hz
const EARLY = 1600; // 100 ms are buffered before the caller is played, so that a late packet is not heard
const MOST = 16000; // one second: a browser that was asleep goes on with the latest audio

/** Posts the microphone's audio in frames of 20 ms, each an ArrayBuffer. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
  }

  process(inputs) {
    const channel = inputs[0][0];
    if (channel === undefined) return true;
    for (const sample of channel) {
      this.frame[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === FRAME) {
        this.port.postMessage(this.frame.buffer, [this.frame.buffer]);
        this.frame = new Int16Array(FRAME);
        this.filled = 0;
      }
    }
    return true;
  }
}

/** Plays the ArrayBuffers that are posted to it; what is missing is silence. */
class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.waiting = [];
    this.length = 0;
    this.position = 0;
    this.isPlaying = false;
    this.port.onmessage = ({ data }) => {
      const samples = new Int16Array(data);
      this.waiting.push(samples);
      this.length += samples.length;
      while (this.length > MOST) this.drop();
    };
  }

  drop() {
    this.length -= this.waiting.shift().length - this.position;
    this.position = 0;
  }

  process(_inputs, outputs) {
    const channel = outputs[0][0];
    if (this.length >= EARLY) this.isPlaying = true;
    for (let index = 0; index < channel.length; index++) {
      if (!this.isPlaying || this.length === 0) {
        this.isPlaying = false;
        channel[index] = 0;
        continue;
      }
      channel[index] = this.waiting[0][this.position++] / 32768;
      this.length--;
      if (this.position === this.waiting[0].length) {
        this.waiting.shift();
        this.position = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
