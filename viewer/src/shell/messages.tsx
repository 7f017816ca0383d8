// What the page has to say: read aloud, until it is closed or its time is over. A pointer or the focus on it stops the time.

import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";
import { locked, type Message, messages, unsay } from "../state";
import { Icon } from "./icons";
import "./messages.css";

const SECONDS: Record<Message["kind"], number | null> = { info: 6, warning: 12, error: null };

export function Messages() {
  const shown = messages.value;
  // whoever does not give the password presses none of their buttons;
  // both are there from the beginning: what is put into a region is announced, a region that comes is not
  return (
    <div class="shell-messages" inert={locked.value}>
      <div role="alert" aria-live="assertive">
        {shown
          .filter((one) => one.kind === "error")
          .map((one) => (
            <One key={one.id} message={one} />
          ))}
      </div>
      <div role="status" aria-live="polite">
        {shown
          .filter((one) => one.kind !== "error")
          .map((one) => (
            <One key={one.id} message={one} />
          ))}
      </div>
    </div>
  );
}

function One({ message }: { message: Message }) {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const seconds = message.seconds ?? (message.action === undefined ? SECONDS[message.kind] : null);
  const stop = () => clearTimeout(timer.current);
  const start = () => {
    stop();
    if (seconds !== null) timer.current = setTimeout(() => unsay(message.id), seconds * 1000);
  };
  useEffect(() => {
    start();
    return stop;
  }, []);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: only its time is stopped
    <div
      class={`shell-message shell-message-${message.kind}`}
      onPointerEnter={stop}
      onPointerLeave={start}
      onFocusIn={stop}
      onFocusOut={start}
    >
      <Icon name={message.kind === "info" ? "info" : "warning"} />
      <p>
        <span class="aloud">{t(`shell.message.${message.kind}`)} </span>
        {message.text}
      </p>
      {message.action !== undefined && (
        <button
          type="button"
          class="button-quiet"
          onClick={() => {
            unsay(message.id);
            message.action?.run();
          }}
        >
          {message.action.text}
        </button>
      )}
      <button type="button" class="button-icon" aria-label={t("shell.dismiss")} onClick={() => unsay(message.id)}>
        <Icon name="close" size={16} />
      </button>
    </div>
  );
}
