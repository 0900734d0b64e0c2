"""Lists with a filter, reads and updates with the Python client of openapi-generator. Checked by mypy, and run."""

import json
import sys

from openapi_client import ApiClient, Configuration, UserAdminServiceApi, UserServiceApi
from openapi_client.models.create_user_request import CreateUserRequest
from openapi_client.models.gender import Gender
from openapi_client.models.profile import Profile
from openapi_client.models.update_profile_request import UpdateProfileRequest

NICKNAME = "openapi-generator"


def main(host: str, token: str) -> None:
    with ApiClient(Configuration(host=host, access_token=token)) as client:
        users, admin = UserServiceApi(client), UserAdminServiceApi(client)
        created = admin.create_user(CreateUserRequest(profile=Profile(nickname=NICKNAME, gender=Gender.GENDER_FEMALE)))
        assert created.profile is not None and created.profile.user_id is not None
        user_id = created.profile.user_id

        for condition, expected in (({"nickname": {"$eq": NICKNAME}}, [user_id]), ({"nickname": "nobody"}, [])):
            listed = users.list_profiles(filter=json.dumps(condition), page_size=5)
            assert [profile.user_id for profile in listed.profiles or []] == expected, listed

        update = UpdateProfileRequest(profile=Profile(city="广州"), updateMask="city")
        assert users.update_profile(user_id, update_profile_request=update).profile is not None
        read = users.get_profile(user_id).profile
        assert read is not None and (read.city, read.gender) == ("广州", Gender.GENDER_FEMALE), read


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
