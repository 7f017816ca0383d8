// A warning before the page is left while files are on their way. Steps on the picture are warned of by the panels.

import { uploading } from "../cases/uploads";

export function followLeaving(): () => void {
  const leave = (event: BeforeUnloadEvent) => {
    if (uploading.value !== null) event.preventDefault();
  };
  window.addEventListener("beforeunload", leave);
  return () => window.removeEventListener("beforeunload", leave);
}
