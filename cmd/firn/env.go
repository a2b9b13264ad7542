package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/server"
)

func newEnv() *cobra.Command {
	var dataDir, region, account string
	cmd := &cobra.Command{
		Use:     "env",
		Short:   "Print what to export so that clients find the running firn",
		Example: "  eval \"$(firn env)\"\n  aws lambda list-functions",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			endpoint, err := server.ReadEndpoint(dataDir)
			if err != nil {
				return err
			}
			creds, err := server.RootCredentials(dataDir, account)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), exports(endpoint, region, creds))
			return err
		},
	}
	cmd.Flags().StringVar(&dataDir, "data", defaultDataDir(), "data directory of the running firn")
	cmd.Flags().StringVar(&region, "region", server.DefaultRegion, "region given to firn up")
	cmd.Flags().StringVar(&account, "account", server.DefaultAccount, "account given to firn up")
	return cmd
}

// exports are shell lines that point the AWS CLI and every SDK at firn, for
// the services that it has.
func exports(endpoint, region string, creds keyring.Credentials) string {
	var out strings.Builder
	for _, service := range []string{"LAMBDA", "CLOUDWATCH_LOGS", "CLOUDWATCH", "ECR", "STS"} {
		fmt.Fprintf(&out, "export AWS_ENDPOINT_URL_%s=%s\n", service, endpoint)
	}
	fmt.Fprintf(&out, "export AWS_REGION=%s AWS_DEFAULT_REGION=%s\nexport AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n",
		region, region, creds.AccessKeyID, creds.SecretAccessKey)
	return out.String()
}
