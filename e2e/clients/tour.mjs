// What a user of the SDK for JavaScript does with a function, from creation to
// deletion, and whether its typed errors are recognised.
// Usage: node tour.mjs CLIENTS_DIR FUNCTION_ZIP
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/package.json");
const lambda = require("@aws-sdk/client-lambda");
const client = new lambda.LambdaClient({});
const ZipFile = readFileSync(process.argv[3]);
const Role = "arn:aws:iam::123456789012:role/tour";
const FunctionName = "node";
const waiting = { client, maxWaitTime: 30, minDelay: 1, maxDelay: 1 };
const send = (name, input) => client.send(new lambda[name + "Command"](input));
const json = (payload) => JSON.parse(Buffer.from(payload).toString());

const create = { FunctionName, Runtime: "provided.al2023", Handler: "x", Role, Code: { ZipFile } };
const created = await send("CreateFunction", create);
assert.equal(created.$metadata.httpStatusCode, 201);
assert.equal(created.State, "Pending");
await lambda.waitUntilFunctionActiveV2(waiting, { FunctionName });

const first = await send("Invoke", { FunctionName, Payload: JSON.stringify({ do: "info" }), LogType: "Tail" });
assert.equal(first.StatusCode, 200);
assert.equal(first.FunctionError, undefined);
assert.equal(json(first.Payload).invocation, 1);
assert.match(Buffer.from(first.LogResult, "base64").toString(), new RegExp("REPORT RequestId: " + first.$metadata.requestId));

await send("UpdateFunctionConfiguration", { FunctionName, Environment: { Variables: { COLOUR: "green" } } });
await lambda.waitUntilFunctionUpdatedV2(waiting, { FunctionName });
const second = await send("Invoke", { FunctionName, Payload: JSON.stringify({ do: "info" }) });
assert(json(second.Payload).env.includes("COLOUR=green"));

const refused = async (error, name, input) =>
  assert.rejects(send(name, input), (e) => e instanceof lambda[error] && e.message.length > 0);
await refused("ResourceNotFoundException", "GetFunction", { FunctionName: "nobody" });
await refused("ResourceConflictException", "CreateFunction", create);
await refused("InvalidParameterValueException", "CreateFunction", { ...create, FunctionName: "bad", Code: { ZipFile: Buffer.from("no") } });
await refused("PreconditionFailedException", "UpdateFunctionCode", { FunctionName, ZipFile, RevisionId: "old" });
await refused("InvalidRequestContentException", "Invoke", { FunctionName, Payload: "{" });

const failed = await send("Invoke", { FunctionName, Payload: JSON.stringify({ do: "error", arg: "no luck" }) });
assert.equal(failed.FunctionError, "Unhandled");
assert.equal(json(failed.Payload).errorMessage, "no luck");

await send("DeleteFunction", { FunctionName });
await refused("ResourceNotFoundException", "Invoke", { FunctionName });
console.log("the SDK for JavaScript is content");
