// What lies over the page until it is answered: the page behind cannot be reached, Escape closes it, and the focus goes
// back to where it was.

import { effect, signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { t } from "../i18n";
import { locked } from "../state";
import { trapTab } from "./focus";
import { Icon } from "./icons";
import "./dialog.css";

/** How many are open: keys of the page are not heard meanwhile. */
export const dialogs = signal(0);

interface Properties {
  title: string;
  onClose: () => void;
  /** Wider, for what has columns. */
  wide?: boolean;
  children: ComponentChildren;
}

export function Dialog({ title, onClose, wide = false, children }: Properties) {
  const dialog = useRef<HTMLDialogElement>(null);
  const name = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialogs.value += 1;
    // what is modal would lie over the password that is asked for, and keep it from being typed
    const stop = effect(() => {
      if (locked.value) dialog.current?.close();
      else dialog.current?.showModal();
    });
    return () => {
      stop();
      dialogs.value -= 1;
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "shell-dialog shell-dialog-wide" : "shell-dialog"}
      aria-labelledby={name}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onKeyDown={(event) => {
        event.stopPropagation();
        if (event.key === "Escape") {
          event.preventDefault();
          onClose();
        } else if (dialog.current !== null) trapTab(event, dialog.current);
      }}
      onPointerDown={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <div class="shell-dialog-inside">
        <header class="shell-dialog-head">
          <h2 id={name}>{title}</h2>
          <button type="button" class="button-icon" aria-label={t("shell.close")} onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
