"""Gets a profile with the generated code. Checked by mypy, and run without arguments to load all of it."""

import sys

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.field_mask_pb2 import FieldMask

# Another company's contract in the same process: this raised TypeError while ours was user.v1 too.
from user.v1 import user_pb2, user_pb2_grpc
from userservice.v1 import profile_pb2, user_admin_service_pb2, user_service_pb2, user_service_pb2_grpc


def get_profile(address: str, token: str, user_id: int) -> profile_pb2.Profile:
    request = profile_pb2.GetProfileRequest(user_id=user_id, read_mask=FieldMask(paths=["nickname"]))
    with grpc.insecure_channel(address) as channel:
        users = user_service_pb2_grpc.UserServiceStub(channel)
        response: profile_pb2.GetProfileResponse = users.GetProfile(
            request, metadata=[("authorization", f"Bearer {token}")], timeout=5
        )
    return response.profile


def check_linked() -> None:
    ours = user_service_pb2.DESCRIPTOR.services_by_name["UserService"].full_name
    admin = user_admin_service_pb2.DESCRIPTOR.services_by_name["UserAdminService"].full_name
    theirs = user_pb2.DESCRIPTOR.services_by_name["UserService"].full_name
    assert (ours, admin, theirs) == (
        "userservice.v1.UserService",
        "userservice.v1.UserAdminService",
        "user.v1.UserService",
    ), (ours, admin, theirs)
    for name in (ours, admin, theirs):
        descriptor_pool.Default().FindServiceByName(name)
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        user_service_pb2_grpc.UserServiceStub(channel)
        user_pb2_grpc.UserServiceStub(channel)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        check_linked()
    else:
        print(get_profile(sys.argv[1], sys.argv[2], int(sys.argv[3])))
