package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

func (c *Control) getAccountSettings(ctx context.Context, _ *lambda.GetAccountSettingsInput) (*lambda.GetAccountSettingsOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var size int64
	for _, u := range c.usage {
		size += u.size
	}
	return &lambda.GetAccountSettingsOutput{
		AccountLimit: &types.AccountLimit{
			TotalCodeSize:                  firn.MaxCodeStorageBytes,
			CodeSizeUnzipped:               firn.MaxUnzippedBytes,
			CodeSizeZipped:                 firn.MaxZipUploadBytes,
			ConcurrentExecutions:           int32(c.cfg.Concurrency),
			UnreservedConcurrentExecutions: ptr(int32(c.cfg.Concurrency)),
		},
		AccountUsage: &types.AccountUsage{FunctionCount: int64(len(c.names)), TotalCodeSize: size},
	}, nil
}
