// A reporter of `node --test`: one JSON document a line, for each test {file, name, result}.
export default async function* results(source) {
  const names = new Map();
  for await (const { type, data } of source) {
    if (type !== "test:start" && type !== "test:pass" && type !== "test:fail") continue;
    const file = data.file || "";
    const path = names.get(file) || [];
    names.set(file, path);
    path.length = Math.min(path.length, data.nesting);
    path[data.nesting] = data.name;
    if (type === "test:start") continue;
    const failure = data.details?.error?.failureType;
    // A suite is no test; it counts when it fails by itself.
    if (data.details?.type === "suite" && (type === "test:pass" || failure === "subtestsFailed")) continue;
    let result = type === "test:pass" ? "passed" : "failed";
    if (data.skip !== undefined || data.todo !== undefined) result = "skipped";
    if (failure === "hookFailed") result = "error";
    const name = data.name === file ? [] : path.slice(0, data.nesting + 1);
    yield JSON.stringify({ file, name, result }) + "\n";
  }
}
