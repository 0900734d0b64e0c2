// Gets a profile with the generated code. Type-checked, and run without arguments to load all of it.
import { strict as assert } from "node:assert";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Profile } from "./gen/ts/userservice/v1/profile_pb.js";
import { UserAdminService } from "./gen/ts/userservice/v1/user_admin_service_pb.js";
import { UserService } from "./gen/ts/userservice/v1/user_service_pb.js";

async function getProfile(baseUrl: string, token: string, userId: bigint): Promise<Profile | undefined> {
  const users = createClient(UserService, createGrpcTransport({ baseUrl }));
  const response = await users.getProfile(
    { key: { case: "userId", value: userId }, readMask: { paths: ["nickname"] } },
    { headers: { authorization: `Bearer ${token}` }, timeoutMs: 5000 },
  );
  return response.profile;
}

const [baseUrl, token, userId] = process.argv.slice(2);
if (baseUrl === undefined || token === undefined || userId === undefined) {
  assert.equal(UserService.typeName, "userservice.v1.UserService");
  assert.equal(UserService.method.batchGetProfiles.idempotency, 1);
  assert.equal(UserAdminService.typeName, "userservice.v1.UserAdminService");
} else {
  console.log(await getProfile(baseUrl, token, BigInt(userId)));
}
