// Loaded before a program of Node's in a check. If that is a runner of tests, it is asked for its results as well.
"use strict";

const fs = require("node:fs");
const { isMainThread } = require("node:worker_threads");

const RESULTS = "/run/results";
const RUNNERS = [
  [/\/node_modules\/vitest\/(vitest\.mjs|dist\/cli\.js)$/, vitest],
  [/\/node_modules\/(jest|jest-cli)\/bin\/jest\.js$/, jest],
  [/\/node_modules\/react-scripts\/scripts\/test\.js$/, jest],
  [/\/node_modules\/mocha\/bin\/_?mocha(\.js)?$/, mocha],
];

function before(arguments_) {
  process.argv.splice(2, 0, ...arguments_);
}

function vitest(select) {
  const commands = ["run", "watch", "dev", "related", "list", "bench", "init", "typecheck"];
  const command = process.argv.slice(2).find((argument) => commands.includes(argument));
  if (["list", "bench", "init"].includes(command)) return false;
  before([
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${RESULTS}/vitest-${process.pid}.json`,
    ...(select ? [`--testNamePattern=${select}`] : []),
  ]);
  return true;
}

function jest(select) {
  if (process.argv.some((argument) => /^--(version|showConfig|init|listTests|clearCache)\b/.test(argument))) return false;
  process.argv = process.argv.filter((argument) => !/^--(json$|outputFile=)/.test(argument));
  before([
    "--json",
    `--outputFile=${RESULTS}/jest-${process.pid}.json`,
    ...(select ? [`--testNamePattern=${select}`] : []),
  ]);
  return true;
}

function mocha(select) {
  // Of an option that is given twice mocha takes the last; what follows `--` are files.
  const end = process.argv.indexOf("--");
  const extra = ["--reporter", "/run/lent/node_mocha_reporter.cjs", ...(select ? ["--grep", select] : [])];
  process.argv.splice(end < 0 ? process.argv.length : end, 0, ...extra);
  return true;
}

if (isMainThread) {
  const own = process.execArgv.indexOf(__filename);
  if (own > 0) process.execArgv.splice(own - 1, 2);
  let program = "";
  try {
    program = fs.realpathSync(process.argv[1] || "");
  } catch {
    // Code from the command line, or nothing at all.
  }
  // yarn puts a wrapper of its own before every node, which leads to the one that it runs in itself.
  if (/\/(yarn|yarnpkg|yarn-[\w.]+)(\.js|\.cjs)$/.test(program)) process.execPath = "/run/lent/bin/node";
  const found = RUNNERS.find(([pattern]) => pattern.test(program));
  if (found && !process.env.ARCHON_RESULTS_TAKEN && found[1](process.env.ARCHON_SELECT)) {
    process.env.ARCHON_RESULTS_TAKEN = "1";
  }
}
