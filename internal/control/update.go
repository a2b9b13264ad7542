package control

import (
	"context"
	"crypto/sha256"
	"encoding/base64"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

// change runs one update of a function: it checks the revision and that no
// other update is in progress, lets alter edit a copy, and makes of it an
// update in progress, which update saves. alter may store archives. The
// caller holds gc for reading and the function's lock.
func (c *Control) change(ctx context.Context, ref firn.FunctionRef, revisionID *string, alter func(*record) error) (*edit, error) {
	old, err := c.changeable(ref, revisionID)
	if err != nil {
		return nil, err
	}
	rec := *old
	if err := alter(&rec); err != nil {
		return nil, err
	}
	if old.Before == nil && old.serving != nil {
		before := *old
		rec.Before = &before
	}
	rec.Generation = awswire.NewRequestID()
	rec.Config.RevisionId = ptr(awswire.NewRequestID())
	rec.Config.LastModified = c.timestamp()
	rec.Config.LastUpdateStatus = types.LastUpdateStatusInProgress
	rec.Config.LastUpdateStatusReason = ptr("The function is being created.")
	rec.Config.LastUpdateStatusReasonCode = "Creating" // as recorded; the SDK has no constant for it
	e := c.newEdit(ref.Name)
	e.rec = &rec
	return e, nil
}

// update runs one change, with what finish adds to it, and has it settled in
// the background.
func (c *Control) update(ctx context.Context, ref firn.FunctionRef, revisionID *string, alter func(*record) error, finish func(*edit)) error {
	c.gc.RLock()
	defer c.gc.RUnlock()
	unlock := c.lock(ref.Name)
	defer unlock()
	e, err := c.change(ctx, ref, revisionID, alter)
	if err != nil {
		return err
	}
	finish(e)
	if err := e.commit(ctx); err != nil {
		return err
	}
	c.settling.add(ref.Name)
	return nil
}

// changeable finds a record and checks that it may be changed now.
func (c *Control) changeable(ref firn.FunctionRef, revisionID *string) (*record, error) {
	if ref.Qualifier != "" && ref.Qualifier != firn.Latest {
		return nil, invalid("Current operation does not support versions other than $LATEST. Please set the version to $LATEST or do not set a version in your request.")
	}
	rec, err := c.findLatest(ref)
	if err != nil {
		return nil, err
	}
	if revisionID != nil && *revisionID != *rec.Config.RevisionId {
		return nil, revisionMismatch("GetFunction/GetAlias")
	}
	if rec.Config.State == types.StatePending {
		return nil, firn.Faultf(firn.ResourceConflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending")
	}
	if rec.Config.LastUpdateStatus == types.LastUpdateStatusInProgress {
		return nil, firn.Faultf(firn.ResourceConflict, "The operation cannot be performed at this time. An update is in progress for resource: %s", *rec.Config.FunctionArn)
	}
	return rec, nil
}

func (c *Control) updateFunctionCode(ctx context.Context, in *lambda.UpdateFunctionCodeInput) (*lambda.UpdateFunctionCodeOutput, error) {
	ref, err := c.reference(in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if err := refuseSet(c.unservedCode(in)); err != nil {
		return nil, err
	}
	old, err := c.changeable(ref, in.RevisionId)
	if err != nil {
		return nil, err // before the work; it is asked again under the lock
	}
	if err := c.checkArchitecture(in.Architectures); err != nil {
		return nil, err
	}
	source, err := c.updateCode(ctx, old, in)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		rec := *old
		return c.dryRun(ctx, &rec, source)
	}
	var shown *record
	err = c.update(ctx, ref, in.RevisionId, func(rec *record) error {
		if rec.isImage() != (source.image != nil) {
			return firn.Faultf(firn.ResourceConflict, "The function was deleted and made again meanwhile: %s", *rec.Config.FunctionArn)
		}
		return c.setCode(ctx, rec, source)
	}, func(e *edit) {
		if shown = e.rec; in.Publish {
			shown = e.publish(nil)
		}
	})
	if err != nil {
		return nil, err
	}
	return convert[lambda.UpdateFunctionCodeOutput](c.describe(ctx, shown)), nil
}

// dryRun answers what an update would, and stores nothing.
func (c *Control) dryRun(ctx context.Context, rec *record, source code) (*lambda.UpdateFunctionCodeOutput, error) {
	if source.image != nil {
		c.setImage(rec, source.image)
		return convert[lambda.UpdateFunctionCodeOutput](c.describe(ctx, rec)), nil
	}
	rec.Unzipped = source.zip.info.UnzippedBytes
	if err := checkCode(rec); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(source.zip.zip)
	rec.Config.CodeSize = int64(len(source.zip.zip))
	rec.Config.CodeSha256 = ptr(base64.StdEncoding.EncodeToString(sum[:]))
	return convert[lambda.UpdateFunctionCodeOutput](c.describe(ctx, rec)), nil
}

// reconfigure is configure for a function that is there. Variables that are
// taken away are not shown as an empty environment, as those of a function that
// was created with none are.
func (c *Control) reconfigure(ctx context.Context, rec *record, in *lambda.UpdateFunctionConfigurationInput) error {
	err := c.configure(ctx, rec, in)
	if in.Environment != nil && len(rec.variables) == 0 {
		rec.variables = nil
	}
	return err
}

func (c *Control) updateFunctionConfiguration(ctx context.Context, in *lambda.UpdateFunctionConfigurationInput) (*lambda.UpdateFunctionConfigurationOutput, error) {
	ref, err := c.reference(in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	var shown *record
	err = c.update(ctx, ref, in.RevisionId, func(rec *record) error { return c.reconfigure(ctx, rec, in) }, func(e *edit) { shown = e.rec })
	if err != nil {
		return nil, err
	}
	return convert[lambda.UpdateFunctionConfigurationOutput](c.describe(ctx, shown)), nil
}
