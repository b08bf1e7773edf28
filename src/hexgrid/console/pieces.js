// What /tokenize calls a token -> what people can read. A piece writes each byte as one printable character
// (GPT-2's alphabet), so that a letter of several bytes may lie in several tokens.

const BYTES = byteOfEach();

function byteOfEach() {
  const printable = (byte) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const bytes = new Map();
  let others = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    bytes.set(String.fromCharCode(printable(byte) ? byte : others++), byte);
  }
  return bytes;
}

/** { text, kind }: kind is "text", "special" (as <|endoftext|>) or "bytes" (part of a letter, in hex). */
export function readable(piece) {
  if (/^<\|.*\|>$/.test(piece)) return { text: piece, kind: "special" };
  const bytes = [...piece].map((character) => BYTES.get(character));
  if (bytes.includes(undefined)) return { text: piece, kind: "text" };
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      Uint8Array.from(bytes),
    );
    return { text, kind: "text" };
  } catch {
    return {
      text: bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" "),
      kind: "bytes",
    };
  }
}

/** White space made visible, so that " the" and "the" can be told apart. */
export const visible = (text) =>
  text
    .replaceAll(" ", "\u00b7")
    .replaceAll("\n", "\u21b5")
    .replaceAll("\t", "\u21e5")
    .replaceAll("\r", "\u240d");

/**
 * Which tokens a cut keeps, as the server does it: of a text N-1 of its own tokens, on either side, and the
 * EOS. `count` is all tokens with the EOS, `most` null where nothing is cut. A list of booleans.
 */
export function keptTokens(count, most, side) {
  if (most === null || count <= most) return Array(count).fill(true);
  const own = count - 1;
  const keep = most - 1;
  return Array.from({ length: count }, (_, i) => {
    if (i === own) return true;
    return side === "left" ? i >= own - keep : i < keep;
  });
}
