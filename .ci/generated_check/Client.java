import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import java.util.concurrent.TimeUnit;
import userservice.v1.GetProfileRequest;
import userservice.v1.Profile;
import userservice.v1.UserAdminServiceGrpc;
import userservice.v1.UserServiceGrpc;

/** Gets a profile with the generated code. Compiled, and run without arguments to load all of it. */
public class Client {
  static Profile getProfile(Channel channel, String token, long userId) {
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    return UserServiceGrpc.newBlockingStub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
        .withDeadlineAfter(5, TimeUnit.SECONDS)
        .getProfile(GetProfileRequest.newBuilder().setUserId(userId).build())
        .getProfile();
  }

  static void checkLoaded() {
    // Builds the descriptors of every file that the two services use.
    int methods =
        UserServiceGrpc.getServiceDescriptor().getMethods().size()
            + UserAdminServiceGrpc.getServiceDescriptor().getMethods().size();
    String name = Profile.getDescriptor().getFullName();
    if (methods < 20 || !name.equals("userservice.v1.Profile")) {
      throw new AssertionError(methods + " methods, " + name);
    }
  }

  public static void main(String[] args) {
    if (args.length == 0) {
      checkLoaded();
      return;
    }
    ManagedChannel channel = NettyChannelBuilder.forTarget(args[0]).usePlaintext().build();
    System.out.println(getProfile(channel, args[1], Long.parseLong(args[2])));
    channel.shutdownNow();
  }
}
