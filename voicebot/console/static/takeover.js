// An operator takes a call over: claim, listen, speak, give the caller back. It uses the public HTTP API only.
// `?processing=off` turns the browser's noise suppression, echo cancellation and gain control off.

const RATE = 16000;
const API = new URL("../api/v1/", location.href);
const BEAT_MS = 60000; // a claim lasts three minutes without a sign of life
const LOUD = 4;

const $ = (id) => document.getElementById(id);
const cleaned = new URLSearchParams(location.search).get("processing") !== "off";

let key = "";
let handoff = null;
let socket = null;
let audio = null;

function show(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
  const isOpen = socket !== null;
  $("listen").disabled = isOpen;
  $("speak").disabled = !isOpen || state === "speaking";
  $("mute").disabled = !isOpen || state !== "speaking";
  $("return").disabled = $("resolve").disabled = !isOpen;
}

async function request(method, path, body) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(new URL(path, API), { method, headers, body: body && JSON.stringify(body) });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail || document.title || `HTTP ${answer.status}`);
  return document;
}

/** Run what a button asks for; a failure is shown instead of thrown. */
function attempt(action) {
  return async (event) => {
    event?.preventDefault();
    try {
      await action();
    } catch (error) {
      show("failed", error.message);
    }
  };
}

async function showQueue() {
  key = $("key").value.trim();
  const { items } = await request("GET", "handoffs?limit=100");
  const claimable = items.filter((each) => each.intent === "escalate" && each.call_id !== null);
  $("handoffs").replaceChildren(...claimable.map(entry));
  $("queue").hidden = false;
  show("queue", claimable.length ? "Choose a caller." : "Nobody waits.");
}

function entry(each) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.handoff = each.id;
  button.textContent = `${each.reason} (${each.state})`;
  button.addEventListener("click", attempt(() => claim(each.id)));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

async function claim(id) {
  const claimed = await request("POST", `handoffs/${id}/claim`, { dial: false });
  handoff = claimed.handoff ?? claimed;
  $("summary").textContent = claimed.briefing.problem.summary;
  $("start-here").replaceChildren(
    ...claimed.briefing.start_here.map((step) => {
      const item = document.createElement("li");
      item.textContent = step;
      return item;
    }),
  );
  $("call").hidden = false;
  show("claimed", "The caller is yours. Listen first; they do not hear you.");
}

async function openAudio() {
  const context = new AudioContext({ sampleRate: RATE });
  await context.audioWorklet.addModule("audio.js");
  const constraints = { echoCancellation: cleaned, noiseSuppression: cleaned, autoGainControl: cleaned };
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...constraints } });
  const capture = new AudioWorkletNode(context, "capture", {
    numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit",
  });
  const playback = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
  context.createMediaStreamSource(microphone).connect(capture);
  playback.connect(context.destination);
  await context.resume();
  return { context, microphone, capture, playback };
}

async function listen() {
  audio = await openAudio();
  const { token } = await request("POST", "handoffs/stream-token");
  const address = new URL(`handoffs/${handoff.id}/audio`, API);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.searchParams.set("token", token);
  const opened = new WebSocket(address);
  opened.binaryType = "arraybuffer";
  audio.capture.port.onmessage = ({ data }) => {
    $("spoken").value = loudness(data);
    if (opened.readyState === WebSocket.OPEN) opened.send(data);
  };
  opened.onmessage = ({ data }) => {
    if (typeof data === "string") return;
    $("heard").value = loudness(data);
    audio?.playback.port.postMessage(data, [data]);
  };
  opened.onclose = ({ code, reason }) => closed(code, reason);
  opened.onopen = () => {
    socket = opened;
    show("listening", "You listen. The caller does not hear you, and the agent goes on.");
  };
  globalThis.takeoverAudio = audio; // for the browser's developer tools
}

function loudness(buffer) {
  const samples = new Int16Array(buffer);
  let sum = 0;
  for (const sample of samples) sum += Math.abs(sample);
  return Math.min(1, (LOUD * sum) / Math.max(1, samples.length) / 32768);
}

function closed(code, reason) {
  socket = null;
  audio?.microphone.getTracks().forEach((track) => track.stop());
  audio?.context.close();
  audio = null;
  const text = code === 1000 ? "The conversation is over." : `The connection was closed (${code}). ${reason}`;
  show(code === 1000 ? "left" : "failed", text);
}

function control(message, state, text) {
  socket.send(JSON.stringify(message));
  if (state) show(state, text);
}

$("sign-in").addEventListener("submit", attempt(showQueue));
$("refresh").addEventListener("click", attempt(showQueue));
$("listen").addEventListener("click", attempt(listen));
$("speak").addEventListener("click", () =>
  control({ mute: false }, "speaking", "You speak with the caller; the agent is silent."));
$("mute").addEventListener("click", () =>
  control({ mute: true }, "muted", "The call is yours; the caller does not hear you."));
$("return").addEventListener("click", () => control({ leave: "return" }));
$("resolve").addEventListener("click", () => control({ leave: "resolve" }));
setInterval(() => {
  if (handoff !== null) request("POST", "operators/me/heartbeat").catch(() => undefined);
}, BEAT_MS);
