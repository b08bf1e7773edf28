// Asks our own API. The key lives in this tab's session storage and travels in a header, never in an address.

const STORED = "hexgrid.key";

/** What went wrong with a request: `status` is 0 where no answer came. */
export class Failure extends Error {
  constructor(status, message, { type = "", param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, type, param, retryAfter });
  }
}

export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

/** Where the API is: the pages may be served under a proxy's prefix. */
export const base = () => new URL(".", document.baseURI).href.replace(/\/$/, "");

/**
 * The answer to a GET, or to a POST of `body`; `path` has no slash in front.
 * Throws a Failure for anything but 2xx, and an AbortError when `signal` says so.
 */
export async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unsent(error);
  }
  if (answer.ok) return answer;
  throw await refused(answer);
}

/** The decoded JSON of an answer, and its headers. */
export async function askJson(path, options) {
  const answer = await ask(path, options);
  try {
    return { json: await answer.json(), headers: answer.headers };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The connection ended in the middle of the answer");
  }
}

function unsent(error) {
  // A key with characters that no header can carry never leaves the page.
  if (/header|ByteString|ISO-8859-1/i.test(error.message)) {
    return new Failure(401, "The key holds characters that no key has");
  }
  return new Failure(0, "No answer came");
}

async function refused(answer) {
  const seconds = Number.parseInt(answer.headers.get("retry-after") ?? "", 10);
  const retryAfter = Number.isNaN(seconds) ? null : seconds;
  try {
    const { message, type, param } = (await answer.json()).error;
    return new Failure(answer.status, message, { type, param, retryAfter });
  } catch {
    // Not ours: something in between answered.
    return new Failure(answer.status, `HTTP ${answer.status} ${answer.statusText}`, { retryAfter });
  }
}
