// Lists with a filter, reads and updates with the client of openapi-generator (typescript-fetch); checks the types of
// openapi-typescript. Checked by tsc, and run.

import { Configuration, Gender, UserAdminServiceApi, UserServiceApi } from "./typescript-fetch/index.js";
import type { paths } from "./openapi-typescript.js";

type Filter = NonNullable<NonNullable<paths["/v1/profiles"]["get"]["parameters"]["query"]>["filter"]>;

const nickname = "typescript-fetch";
const [host, accessToken] = process.argv.slice(2) as [string, string];
const configuration = new Configuration({ basePath: host, accessToken });
const users = new UserServiceApi(configuration);
const created = await new UserAdminServiceApi(configuration).createUser({
  createUserRequest: { profile: { nickname, gender: Gender.GenderFemale } },
});
const userId = created.profile!.userId!;

for (const [condition, expected] of [[{ nickname: { $eq: nickname } }, 1], [{ nickname: "nobody" }, 0]] as const) {
  const filter: Filter = JSON.stringify(condition);
  const found = (await users.listProfiles({ filter, pageSize: 5 })).profiles ?? [];
  if (found.length !== expected) throw new Error(`${filter} finds ${JSON.stringify(found)}`);
}

await users.updateProfile({ userId, updateProfileRequest: { profile: { city: "广州" }, updateMask: "city" } });
const read = (await users.getProfile({ userId })).profile!;
if (read.city !== "广州" || read.gender !== Gender.GenderFemale) throw new Error(JSON.stringify(read));
