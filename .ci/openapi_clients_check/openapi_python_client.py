"""Lists with a filter, reads and updates with the client of openapi-python-client. Checked by mypy, and run."""

import json
import sys

from generated import AuthenticatedClient
from generated.api.user_admin_service import create_user
from generated.api.user_service import get_profile, list_profiles, update_profile
from generated.models.create_user_body import CreateUserBody
from generated.models.create_user_response import CreateUserResponse
from generated.models.gender import Gender
from generated.models.get_profile_response import GetProfileResponse
from generated.models.list_profiles_response import ListProfilesResponse
from generated.models.profile import Profile
from generated.models.update_profile_body import UpdateProfileBody

NICKNAME = "openapi-python-client"


def main(host: str, token: str) -> None:
    client = AuthenticatedClient(base_url=host, token=token)
    body = CreateUserBody(profile=Profile(nickname=NICKNAME, gender=Gender.GENDER_FEMALE))
    created = create_user.sync(client=client, body=body)
    assert isinstance(created, CreateUserResponse) and isinstance(created.profile, Profile), created
    user_id = created.profile.user_id
    assert isinstance(user_id, str)

    for condition, expected in (({"nickname": {"$eq": NICKNAME}}, [user_id]), ({"nickname": "nobody"}, [])):
        listed = list_profiles.sync(client=client, filter_=json.dumps(condition), page_size=5)
        assert isinstance(listed, ListProfilesResponse), listed
        assert [profile.user_id for profile in listed.profiles or []] == expected, listed

    update_profile.sync(user_id, client=client, body=UpdateProfileBody(profile=Profile(city="广州"), update_mask="city"))
    read = get_profile.sync(user_id, client=client)
    assert isinstance(read, GetProfileResponse) and isinstance(read.profile, Profile), read
    assert (read.profile.city, read.profile.gender) == ("广州", Gender.GENDER_FEMALE), read


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
