// A button that opens a small card below it. Escape, a press elsewhere or a focus that leaves closes it.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons";

interface Properties {
  icon: IconName;
  label: string;
  /** What is inside; it may close the card. */
  children: (close: () => void) => ComponentChildren;
}

export function Menu({ icon, label, children }: Properties) {
  const open = useSignal(false);
  const all = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  const close = () => {
    open.value = false;
  };
  useEffect(() => {
    const elsewhere = (event: PointerEvent) => {
      if (open.value && event.target instanceof Node && !all.current?.contains(event.target)) close();
    };
    document.addEventListener("pointerdown", elsewhere);
    return () => document.removeEventListener("pointerdown", elsewhere);
  }, []);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: hears what happens to the button and the card inside
    <div
      ref={all}
      class="shell-menu"
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !open.value) return;
        event.stopPropagation();
        close();
        button.current?.focus();
      }}
      onFocusOut={(event) => {
        if (event.relatedTarget instanceof Node && !all.current?.contains(event.relatedTarget)) close();
      }}
    >
      <button
        ref={button}
        type="button"
        class="button-icon"
        aria-label={label}
        title={label}
        aria-expanded={open.value}
        aria-controls={id}
        onClick={() => {
          open.value = !open.value;
        }}
      >
        <Icon name={icon} />
      </button>
      <div id={id} class="shell-menu-card" hidden={!open.value}>
        {open.value && children(close)}
      </div>
    </div>
  );
}
