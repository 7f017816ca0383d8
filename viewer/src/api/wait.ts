// Waiting that can be given up.

import { effect } from "@preact/signals";

/** Wait, or raise AbortError. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(over, ms);
    function over(): void {
      signal?.removeEventListener("abort", stopped);
      resolve();
    }
    function stopped(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
    signal?.addEventListener("abort", stopped, { once: true });
  });
}

/** Until something is so, which reads signals or whether the page is hidden. Raises AbortError. */
export function until(so: () => boolean, stop?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let over: () => void = () => {};
    const look = (): void => {
      if (stop?.aborted) {
        over();
        reject(stop.reason);
      } else if (so()) {
        over();
        resolve();
      }
    };
    // signals that `so` reads, and what is no signal
    const unwatch = effect(() => {
      so();
      queueMicrotask(look);
    });
    document.addEventListener("visibilitychange", look);
    stop?.addEventListener("abort", look);
    over = () => {
      unwatch();
      document.removeEventListener("visibilitychange", look);
      stop?.removeEventListener("abort", look);
    };
  });
}
