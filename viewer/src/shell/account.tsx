// Who is here: logging in, a login that was idle, and the menu with what is set once.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { login, logout, unlock } from "../api/account";
import { ApiError, explain } from "../api/http";
import { language, speak, t } from "../i18n";
import { mayLeave } from "../panels/lost";
import { locked, me } from "../state";
import { Icon } from "./icons";
import { Menu } from "./menu";
import { answering, licenceText } from "./model";
import { beforeLogout } from "./session";
import { tell } from "./tell";
import { theme, turn } from "./theme";
import "./account.css";

interface FormProperties {
  title: string;
  text: string;
  button: string;
  /** Does it; what it raises is shown. */
  send: (name: string, password: string) => Promise<unknown>;
  asksName: boolean;
  children?: ComponentChildren;
}

/** A password, with a name or without. It is kept nowhere. */
function PasswordForm({ title, text, button, send, asksName, children }: FormProperties) {
  const problem = useSignal<string | null>(null);
  const sending = useSignal(false);
  const name = useRef<HTMLInputElement>(null);
  const password = useRef<HTMLInputElement>(null);
  const id = useId();
  useEffect(() => {
    (asksName ? name : password).current?.focus();
  }, []);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (sending.value) return;
    sending.value = true;
    problem.value = null;
    try {
      await send(name.current?.value ?? "", password.current?.value ?? "");
    } catch (error) {
      problem.value = reason(error);
      if (password.current !== null) password.current.value = "";
      password.current?.focus();
    } finally {
      sending.value = false;
    }
  };
  return (
    <main class="shell-door">
      <form class="shell-door-card" aria-labelledby={id} onSubmit={submit}>
        <div class="shell-door-mark">
          <Icon name={asksName ? "logo" : "lock"} size={32} />
        </div>
        <h1 id={id}>{title}</h1>
        <p class="shell-door-text">{text}</p>
        {asksName && (
          <label class="field">
            {t("shell.login.name")}
            <input
              ref={name}
              name="username"
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              required
            />
          </label>
        )}
        <label class="field">
          {t("shell.login.password")}
          <input ref={password} name="password" type="password" autocomplete="current-password" required />
        </label>
        <p class="shell-door-problem" role="alert">
          {problem.value}
        </p>
        <button type="submit" class="button" aria-disabled={sending.value}>
          {sending.value ? t("shell.login.sending") : button}
        </button>
        {children}
      </form>
      <p class="shell-door-research">{t("shell.research")}</p>
    </main>
  );
}

/** Why not. A login that has ended meanwhile cannot be unlocked: there has to be a new one. */
function reason(error: unknown): string {
  if (!(error instanceof ApiError) || error.status !== 401) return explain(error);
  if (/password/.test(error.detail)) return t("api.wrongPassword");
  me.value = null;
  locked.value = false;
  return explain(error);
}

export function Login() {
  return (
    <PasswordForm
      title={t("shell.login.title")}
      text={t("shell.login.text")}
      button={t("shell.login.button")}
      send={login}
      asksName
    >
      <LanguageSwitch />
    </PasswordForm>
  );
}

/** Over the page, which is hidden behind it, until the password is given again. */
export function Unlock() {
  return (
    <div class="shell-locked">
      <PasswordForm
        title={t("shell.unlock.title")}
        text={me.value === null ? t("shell.unlock.text") : t("shell.unlock.textName", { name: me.value.name })}
        button={t("shell.unlock.button")}
        send={(_, password) => unlock(password)}
        asksName={false}
      >
        <button type="button" class="button-quiet" onClick={leave}>
          {t("shell.unlock.other")}
        </button>
      </PasswordForm>
    </div>
  );
}

async function leave(): Promise<void> {
  try {
    // a locked login takes no step more
    if (!locked.peek()) {
      if (!(await mayLeave())) return;
      await beforeLogout();
    }
    await logout();
  } catch (error) {
    tell(error);
  }
  me.value = null;
  locked.value = false;
}

/** The other language, in its own words. */
export function LanguageSwitch() {
  const other = language.value === "en" ? "ko" : "en";
  return (
    <button type="button" class="button-icon shell-language" lang={other} onClick={() => speak(other)}>
      {other === "ko" ? "한국어" : "English"}
    </button>
  );
}

export function Account() {
  const who = me.value;
  if (who === null) return null;
  const { name } = answering();
  const local = who.way === "local";
  return (
    <Menu icon="person" label={t("shell.account")}>
      {(close) => (
        <>
          <p class="shell-account-name">{local ? t("shell.account.local") : who.name}</p>
          <p class="shell-account-text">{local ? t("shell.account.localText") : t(`shell.role.${who.role}`)}</p>
          <hr />
          <Choice
            name={t("shell.theme")}
            options={[
              ["dark", t("shell.theme.dark")],
              ["light", t("shell.theme.light")],
            ]}
            chosen={theme.value}
            choose={turn}
          />
          <Choice
            name={t("shell.language")}
            options={[
              ["en", "English"],
              ["ko", "한국어"],
            ]}
            chosen={language.value}
            choose={speak}
          />
          <hr />
          <p class="shell-account-text">
            {name === null ? t("shell.model.unknown") : t("shell.model.is", { name })}
            <br />
            {name !== null && licenceText()}
          </p>
          <p class="shell-account-text">{t("shell.research")}</p>
          {who.role === "administrator" && (
            <a class="shell-account-text" href="/status" target="_blank" rel="noreferrer">
              {t("shell.status")}
            </a>
          )}
          {who.way === "login" && (
            <button
              type="button"
              class="button-quiet"
              onClick={() => {
                close();
                void leave();
              }}
            >
              {t("shell.logout")}
            </button>
          )}
        </>
      )}
    </Menu>
  );
}

interface ChoiceProperties<T extends string> {
  name: string;
  options: readonly (readonly [T, string])[];
  chosen: T;
  choose: (one: T) => void;
}

function Choice<T extends string>({ name, options, chosen, choose }: ChoiceProperties<T>) {
  return (
    <fieldset class="shell-choice">
      <legend>{name}</legend>
      <div>
        {options.map(([one, text]) => (
          <button key={one} type="button" class="button-icon" aria-pressed={one === chosen} onClick={() => choose(one)}>
            {text}
          </button>
        ))}
      </div>
    </fieldset>
  );
}
