// A question that has to be answered before something goes on.

import { signal } from "@preact/signals";
import { Dialog } from "./dialog";

interface Question {
  title: string;
  text: string;
  /** Words of both buttons. */
  yes: string;
  no: string;
}

const question = signal<(Question & { answer: (yes: boolean) => void }) | null>(null);

/** Ask the reader. One that was not answered yet is answered by no. */
export function agreed(asked: Question): Promise<boolean> {
  takeBack();
  return new Promise((resolve) => {
    const answer = (yes: boolean): void => {
      question.value = null;
      resolve(yes);
    };
    question.value = { ...asked, answer };
  });
}

/** Nobody is there to answer any more: no. */
export function takeBack(): void {
  question.peek()?.answer(false);
}

export function Asking() {
  const now = question.value;
  if (now === null) return null;
  return (
    <Dialog title={now.title} onClose={() => now.answer(false)}>
      <p>{now.text}</p>
      <div class="shell-dialog-actions">
        <button type="button" class="button-quiet" onClick={() => now.answer(false)}>
          {now.no}
        </button>
        <button type="button" class="button" onClick={() => now.answer(true)}>
          {now.yes}
        </button>
      </div>
    </Dialog>
  );
}
