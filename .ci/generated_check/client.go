// Gets a profile with the generated code. Compiled, and run without arguments to link all of it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "example.com/project/gen/go/userservice/v1"

	// Another company's contract in the same binary: this panicked at start while ours was user.v1 too.
	other "example.com/other/user/v1"
)

func getProfile(address, token string, userID int64) (*pb.Profile, error) {
	conn, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	response, err := pb.NewUserServiceClient(conn).GetProfile(ctx, &pb.GetProfileRequest{
		Key: &pb.GetProfileRequest_UserId{UserId: userID},
	})
	return response.GetProfile(), err
}

func checkLinked() {
	var _ other.UserServiceClient
	services := []protoreflect.FullName{
		"userservice.v1.UserService", "userservice.v1.UserAdminService", "user.v1.UserService",
	}
	for _, name := range services {
		if _, err := protoregistry.GlobalFiles.FindDescriptorByName(name); err != nil {
			log.Fatalf("%s: %v", name, err)
		}
	}
}

func main() {
	if len(os.Args) == 1 {
		checkLinked()
		return
	}
	userID, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	profile, err := getProfile(os.Args[1], os.Args[2], userID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(profile)
}
