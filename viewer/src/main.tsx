import { render } from "preact";
import { App } from "./app";
import "./style/tokens.css";

render(<App />, document.getElementById("app")!);
