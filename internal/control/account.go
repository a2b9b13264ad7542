package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

func (c *Control) getAccountSettings(_ context.Context, _ *lambda.GetAccountSettingsInput) (*lambda.GetAccountSettingsOutput, error) {
	count := len(c.sortedNames())
	c.mu.Lock()
	defer c.mu.Unlock()
	unreserved := c.cfg.Concurrency - c.claimedLocked()
	return &lambda.GetAccountSettingsOutput{
		AccountLimit: &types.AccountLimit{
			TotalCodeSize:                  firn.MaxCodeStorageBytes,
			CodeSizeUnzipped:               firn.MaxUnzippedBytes,
			CodeSizeZipped:                 firn.MaxZipUploadBytes,
			ConcurrentExecutions:           int32(c.cfg.Concurrency),
			UnreservedConcurrentExecutions: ptr(int32(unreserved)),
		},
		AccountUsage: &types.AccountUsage{FunctionCount: int64(count), TotalCodeSize: c.stored},
	}, nil
}
