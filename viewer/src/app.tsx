// The page: who is here, then the cases or one of them.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { followAttention } from "./annotate/attention";
import { followWork } from "./annotate/opening";
import { followProject, forgetProject, learnProject } from "./annotate/project";
import { forgetSubmitted } from "./annotate/review";
import { ReviewPage } from "./annotate/review-page";
import { StatisticsPage } from "./annotate/statistics-page";
import { whoAmI } from "./api/account";
import { forgetAll } from "./cases/list";
import { Cases } from "./cases/page";
import { t } from "./i18n";
import { mayLeave } from "./panels/lost";
import { Login, Unlock } from "./shell/account";
import { Asking, takeBack } from "./shell/asking";
import { Busy, followWaiting } from "./shell/busy";
import { Help } from "./shell/help";
import { followIdle } from "./shell/idle";
import { followKeys } from "./shell/keys";
import { followLeaving } from "./shell/leaving";
import { Messages } from "./shell/messages";
import { learnModel } from "./shell/model";
import { Banners, Foot } from "./shell/notices";
import { Room } from "./shell/room";
import { followAddress } from "./shell/routing";
import { followRoute } from "./shell/session";
import { tell, tellWhoCame } from "./shell/tell";
import { followTheme } from "./shell/theme";
import { followTitle } from "./shell/title";
import { TopBar } from "./shell/top-bar";
import { locked, me, messages, myName, offline, route } from "./state";

/** The server has not said yet who is here. */
const asking = signal(true);

async function ask(): Promise<void> {
  try {
    await whoAmI();
    asking.value = false;
  } catch (error) {
    tell(error, () => void ask());
  }
}

/** Everything that goes on as long as the page is there. */
function begin(): () => void {
  const ends = [
    followAddress(mayLeave),
    followTheme(),
    followTitle(),
    followWaiting(),
    followKeys(),
    followIdle(),
    followLeaving(),
    followRoute(),
    followProject(),
    followWork(),
    followAttention(),
    myName.subscribe((who) => {
      forgetAll();
      forgetProject();
      forgetSubmitted();
      messages.value = [];
      takeBack();
      tellWhoCame(who);
      if (who !== null) {
        void learnModel();
        void learnProject();
      }
    }),
    // at once, and again when a server that did not answer does
    offline.subscribe((gone) => {
      if (!gone && asking.peek()) void ask();
    }),
  ];
  return () => {
    for (const end of ends) end();
  };
}

export function App() {
  useEffect(begin, []);
  return (
    <>
      <Page />
      {locked.value && <Unlock />}
      <Messages />
      {!locked.value && <Help />}
      <Asking />
    </>
  );
}

function Page() {
  if (asking.value) return <p class="aloud">{t("shell.working")}</p>;
  if (me.value === null) return locked.value ? null : <Login />;
  return (
    <div class={locked.value ? "shell-page shell-page-hidden" : "shell-page"} inert={locked.value}>
      <TopBar />
      <Busy />
      <Banners />
      <div class="shell-body">
        <Body />
      </div>
      <Foot />
    </div>
  );
}

function Body() {
  switch (route.value.page) {
    case "cases":
      return <Cases />;
    case "review":
      return <ReviewPage />;
    case "statistics":
      return <StatisticsPage />;
    default:
      return <Room />;
  }
}
