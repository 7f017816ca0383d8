// A button that says why where it cannot do what it is for: it can be reached and pressed then, too.

import type { ComponentChildren } from "preact";
import { say } from "../state";

interface Properties {
  /** Why it cannot be done now; null: it can. */
  why: string | null;
  class: string;
  title?: string | undefined;
  /** What it is called, where its picture alone is seen. */
  label?: string;
  busy?: boolean;
  onDo: () => void;
  children: ComponentChildren;
}

export function Act({ why, class: kind, title, label, busy, onDo, children }: Properties) {
  return (
    <button
      type="button"
      class={kind}
      aria-disabled={why !== null}
      aria-busy={busy}
      aria-label={label}
      title={why ?? title ?? label}
      onClick={() => {
        if (why === null) onDo();
        else say({ kind: "info", text: why, seconds: 6 });
      }}
    >
      {children}
    </button>
  );
}
