// How a reader has set the page, kept by the browser. One that may keep nothing forgets, and the page works all the same.

export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // full or forbidden
  }
}
