// A name of a structure: typed freely, or taken from the vocabulary. By the ARIA pattern of a combobox with a list.

import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { vocabulary } from "../api/results";
import { t } from "../i18n";
import { complete, type Match } from "./completion";
import { spoken } from "./format";

interface Properties {
  label: string;
  start?: string;
  placeholder?: string;
  /** Names that there are already. */
  taken: readonly string[];
  /** Takes the focus when it appears. */
  eager?: boolean;
  /** A name was chosen or typed; the field goes where it was taken (true), and stays as it is where not. */
  onName: (name: string) => Promise<boolean>;
  /** Left without a name. */
  onLeave?: () => void;
  /** Whether leaving the field takes what stands there. */
  takesOnLeave?: boolean;
}

/** ms without a key before the vocabulary is asked */
const QUIET = 120;

function useMatches(typed: string, taken: readonly string[]): readonly Match[] {
  const [found, setFound] = useState<readonly Match[]>([]);
  useEffect(() => {
    const wanted = typed.trim();
    if (!wanted) {
      setFound([]);
      return;
    }
    const ending = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const terms = await vocabulary(wanted, 40, ending.signal);
        if (!ending.signal.aborted) setFound(complete(terms, wanted, taken));
      } catch {
        // a name can be typed without it
        if (!ending.signal.aborted) setFound([]);
      }
    }, QUIET);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [typed, taken.join("\n")]);
  return found;
}

export function NameBox({ label, start = "", placeholder, taken, eager, onName, onLeave, takesOnLeave }: Properties) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  const [text, setText] = useState(start);
  const [typed, setTyped] = useState("");
  const [closed, setClosed] = useState(false);
  const [at, setAt] = useState(-1);
  const [busy, setBusy] = useState(false);
  const matches = useMatches(typed, taken);
  const open = !closed && matches.length > 0;

  useLayoutEffect(() => {
    if (!eager) return;
    input.current?.focus();
    input.current?.select();
  }, [eager]);

  async function take(name: string): Promise<void> {
    if (done.current) return;
    done.current = true;
    setTyped("");
    setAt(-1);
    // once it was taken, or left, the field goes, and what stood there is not taken again on its way
    setText(name);
    setBusy(true);
    if (await onName(name.trim())) return;
    setBusy(false);
    done.current = false;
  }

  function leave(): void {
    setTyped("");
    setAt(-1);
    onLeave?.();
  }

  function onKeyDown(event: KeyboardEvent): void {
    // while a syllable is being composed, keys are the input method's; Safari says so of the one that ends it by its code
    if (event.isComposing || event.keyCode === 229) return;
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && matches.length > 0) {
      const step = event.key === "ArrowDown" ? 1 : -1;
      const next = closed ? (step > 0 ? 0 : matches.length - 1) : at + step;
      setClosed(false);
      // beyond the ends is the text itself
      setAt(next >= matches.length || next < -1 ? (step > 0 ? -1 : matches.length - 1) : next);
    } else if (event.key === "Enter") {
      const chosen = open ? matches[at] : undefined;
      if (chosen || text.trim()) void take(chosen ? chosen.term.name : text);
      else leave();
    } else if (event.key === "Escape") {
      if (open) {
        setClosed(true);
        setAt(-1);
      } else {
        done.current = true;
        leave();
      }
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  return (
    <div class="panels-combobox">
      <input
        ref={input}
        class="input"
        type="text"
        role="combobox"
        aria-label={label}
        aria-autocomplete="list"
        aria-expanded={open}
        aria-controls={`${id}-list`}
        aria-activedescendant={open && at >= 0 ? `${id}-${at}` : undefined}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        maxLength={200}
        placeholder={placeholder}
        value={text}
        readOnly={busy}
        aria-busy={busy}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setTyped(event.currentTarget.value);
          setClosed(false);
          setAt(-1);
        }}
        onKeyDown={onKeyDown}
        onBlur={() => {
          if (done.current) return;
          setClosed(true);
          if (takesOnLeave && text.trim() && text.trim() !== start.trim()) void take(text);
          else onLeave?.();
        }}
      />
      <div id={`${id}-list`} class="panels-options" role="listbox" aria-label={t("panels.names")} hidden={!open}>
        {matches.map((match, number) => (
          <Option
            key={match.term.name}
            id={`${id}-${number}`}
            match={match}
            chosen={number === at}
            onTake={() => void take(match.term.name)}
          />
        ))}
      </div>
    </div>
  );
}

interface OptionProperties {
  id: string;
  match: Match;
  chosen: boolean;
  onTake: () => void;
}

function Option({ id, match, chosen, onTake }: OptionProperties) {
  return (
    <div
      id={id}
      role="option"
      aria-selected={chosen}
      tabIndex={-1}
      // before the field loses the focus
      onPointerDown={(event) => {
        event.preventDefault();
        onTake();
      }}
    >
      <span class="panels-dot" style={{ background: match.term.colour ?? "transparent" }} />
      <span>{spoken(match.term.name)}</span>
      {match.through && <span class="panels-through">{spoken(match.through)}</span>}
    </div>
  );
}
