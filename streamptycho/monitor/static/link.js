// The connection to the pipeline: opens again by itself, and answers every state so that the next one comes.

const RETRY_MS = 1000;
const RETRY_LATER_MS = 5000;
const SILENCE_MS = 4000;

export class Link {
  constructor({ onState, onPicture, onChange }) {
    Object.assign(this, { onState, onPicture, onChange });
    this.heard = 0;
    setInterval(() => this.watch(), 500);
    this.open();
  }

  open() {
    const address = new URL("ws", window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.take(socket, event.data);
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.onChange("gone");
      setTimeout(() => this.open(), document.body.dataset.link === "over" ? RETRY_LATER_MS : RETRY_MS);
    };
    this.socket = socket;
    this.heard = performance.now();
  }

  take(socket, data) {
    if (socket !== this.socket) return;
    this.heard = performance.now();
    if (typeof data === "string") {
      this.onChange("live");
      try {
        this.onState(JSON.parse(data));
      } finally {
        socket.send("ack");
      }
    } else {
      const size = new DataView(data).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
      this.onPicture(header, new Uint8Array(data, 4 + size));
    }
  }

  watch() {
    const silent = performance.now() - this.heard > SILENCE_MS;
    if (silent && this.socket.readyState === WebSocket.OPEN) this.socket.close();
    if (silent && this.socket.readyState !== WebSocket.CONNECTING) this.onChange("gone");
  }
}
