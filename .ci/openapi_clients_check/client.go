// Lists with a filter, reads and updates with the client of openapi-generator. Checked by go vet, and run.
package main

import (
	"context"
	"fmt"
	"os"

	openapi "example.com/project/openapi"
)

const nickname = "go"

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(host, token string) error {
	configuration := openapi.NewConfiguration()
	configuration.Servers = openapi.ServerConfigurations{{URL: host}}
	client := openapi.NewAPIClient(configuration)
	ctx := context.WithValue(context.Background(), openapi.ContextAccessToken, token)

	profile := openapi.NewProfile()
	profile.SetNickname(nickname)
	profile.SetGender(openapi.GENDER_FEMALE)
	request := openapi.NewCreateUserRequest()
	request.SetProfile(*profile)
	created, _, err := client.UserAdminServiceAPI.CreateUser(ctx).CreateUserRequest(*request).Execute()
	if err != nil {
		return err
	}
	userID := created.Profile.Get().GetUserId()

	for filter, expected := range map[string]int{`{"nickname": {"$eq": "go"}}`: 1, `{"nickname": "nobody"}`: 0} {
		listed, _, err := client.UserServiceAPI.ListProfiles(ctx).Filter(filter).PageSize(5).Execute()
		if err != nil || len(listed.GetProfiles()) != expected {
			return fmt.Errorf("%s finds %v: %w", filter, listed, err)
		}
	}

	city := openapi.NewProfile()
	city.SetCity("广州")
	update := openapi.NewUpdateProfileRequest()
	update.SetProfile(*city)
	update.SetUpdateMask("city")
	if _, _, err := client.UserServiceAPI.UpdateProfile(ctx, userID).UpdateProfileRequest(*update).Execute(); err != nil {
		return err
	}
	read, _, err := client.UserServiceAPI.GetProfile(ctx, userID).Execute()
	if err != nil {
		return err
	}
	if got := read.Profile.Get(); got.GetCity() != "广州" || got.GetGender() != openapi.GENDER_FEMALE {
		return fmt.Errorf("%v", got)
	}
	return nil
}
