// One JSON line {tex, display} in, one JSON line {html} or {error} out.
import katex from "katex";
import { createInterface } from "node:readline";

const strict = { throwOnError: true, strict: "error", trust: false, output: "htmlAndMathml" };

for await (const line of createInterface({ input: process.stdin })) {
  const { tex, display } = JSON.parse(line);
  let answer;
  try {
    answer = { html: katex.renderToString(tex, { ...strict, displayMode: display }) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
