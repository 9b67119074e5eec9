// A reporter of mocha's: prints as mocha does by itself, and writes one JSON document a line, {file, name, result}.
"use strict";

const fs = require("node:fs");
const { createRequire } = require("node:module");

const mocha = createRequire(fs.realpathSync(process.argv[1]))("mocha");

module.exports = class Results extends mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const target = fs.openSync(`/run/results/mocha-${process.pid}.jsonl`, "a");
    const write = (test, result) => {
      const name = test.titlePath ? test.titlePath() : [test.title];
      const file = test.file || (test.parent && test.parent.file) || "";
      fs.writeSync(target, JSON.stringify({ file, name, result }) + "\n");
    };
    runner.on("pass", (test) => write(test, "passed"));
    runner.on("fail", (test) => write(test, test.type === "hook" ? "error" : "failed"));
    runner.on("pending", (test) => write(test, "skipped"));
  }
};
