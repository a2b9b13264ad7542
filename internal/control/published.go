package control

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

const stateActive = types.StateActive

// revisionMismatch is the answer to a revision that is no longer the latest.
func revisionMismatch(get string) error {
	return firn.Faultf(firn.PreconditionFailed, "The Revision Id provided does not match the latest Revision Id. Call the %s API to retrieve the latest Revision Id", get)
}

// publish makes a version of e.rec, unless nothing has changed since the last
// one, which is then returned. The description is that of $LATEST when nil.
// A version of a record that is not settled is settled with it.
func (e *edit) publish(description *string) *record {
	if last := e.lastVersion(); last != nil && unchanged(last, e.rec) {
		return last
	}
	c := e.c
	c.mu.Lock()
	e.number = c.numbers[e.name] + 1
	c.mu.Unlock()
	number := strconv.FormatInt(e.number, 10)
	v := *e.rec
	v.Before, v.Tags, v.serving = nil, nil, nil
	if v.Image != nil {
		v.activity = c.newActivity()
	}
	v.LatestDescription = v.Config.Description
	cfg := &v.Config
	cfg.Version = &number
	set(&cfg.Description, description)
	cfg.RevisionId = ptr(awswire.NewRequestID())
	cfg.LastModified = c.timestamp()
	cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = types.LastUpdateStatusSuccessful, nil, ""
	if settled(e.rec) {
		v.serving = c.version(&v)
	} else {
		cfg.LastUpdateStatus = ""
		cfg.State, cfg.StateReason, cfg.StateReasonCode = types.StatePending, ptr("The function is being created."), types.StateReasonCodeCreating
	}
	put(e, &e.versions, kindVersion, number, &v)
	e.writes = append(e.writes, write{kindVersionCounter, e.name, e.number})
	latest := *e.rec
	latest.Config.RevisionId = ptr(awswire.NewRequestID())
	e.rec = &latest
	return &v
}

// lastVersion is the published version with the highest number, or nil.
func (e *edit) lastVersion() *record {
	numbers := sortedVersions(e.versions)
	if len(numbers) == 0 {
		return nil
	}
	return e.versions[numbers[len(numbers)-1]]
}

// sortedVersions are the numbers in numerical order.
func sortedVersions(versions map[string]*record) []string {
	numbers := sortedKeys(versions)
	slices.SortFunc(numbers, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return numbers
}

// unchanged reports whether code and configuration are those that a version
// was made of.
func unchanged(version, latest *record) bool {
	a, b := version.Config, latest.Config
	for _, cfg := range []*types.FunctionConfiguration{&a, &b} {
		cfg.Version, cfg.RevisionId, cfg.LastModified, cfg.Description = nil, nil, nil, nil
		cfg.State, cfg.StateReason, cfg.StateReasonCode = "", nil, ""
		cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = "", nil, ""
	}
	sameVariables := len(version.variables) == 0 && len(latest.variables) == 0 || reflect.DeepEqual(version.variables, latest.variables)
	return sameVariables && version.Code == latest.Code && deref(version.LatestDescription) == deref(latest.Config.Description) && reflect.DeepEqual(a, b)
}

func (c *Control) publishVersion(ctx context.Context, in *lambda.PublishVersionInput) (*lambda.PublishVersionOutput, error) {
	ref, err := c.reference(in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if in.PublishTo != "" {
		return nil, notServed("PublishTo", ": there are no capacity providers")
	}
	var version *record
	err = c.edit(ctx, ref, func(e *edit) error {
		rec, err := c.changeable(ref, in.RevisionId)
		if err != nil {
			return err
		}
		if in.CodeSha256 != nil && *in.CodeSha256 != "" && *in.CodeSha256 != deref(rec.Config.CodeSha256) {
			return invalid("CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", *in.CodeSha256, deref(rec.Config.CodeSha256))
		}
		if rec.Config.State != stateActive {
			return firn.Faultf(firn.ResourceConflict, "The operation cannot be performed at this time. The function is currently in the following state: %s", rec.Config.State)
		}
		if rec.Before != nil {
			return firn.Faultf(firn.ResourceConflict, "The operation cannot be performed at this time. The last update of the function has failed: %s", *rec.Config.FunctionArn)
		}
		version = e.publish(in.Description)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return convert[lambda.PublishVersionOutput](c.describe(ctx, version)), nil
}

func (c *Control) listVersionsByFunction(_ context.Context, in *lambda.ListVersionsByFunctionInput) (*lambda.ListVersionsByFunctionOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	ref, err := c.reference(in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if ref.Qualifier != "" {
		return nil, invalid("Versions are listed of functions only: %s", c.arnOf(ref))
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	out := &lambda.ListVersionsByFunctionOutput{Versions: []types.FunctionConfiguration{}}
	records, next := page(f.all(), after, in.MaxItems, versionKey)
	for _, rec := range records {
		out.Versions = append(out.Versions, *brief(rec))
	}
	out.NextMarker = next
	return out, nil
}

// all are $LATEST and the published versions, in this order.
func (f *function) all() []*record {
	a := f.attachments()
	var list []*record
	if rec := f.record.Load(); rec != nil {
		list = append(list, rec)
	}
	for _, number := range sortedVersions(a.versions) {
		list = append(list, a.versions[number])
	}
	return list
}

// versionKey sorts $LATEST before the numbers.
func versionKey(rec *record) string {
	number := "0"
	if v := *rec.Config.Version; v != firn.Latest {
		number = v
	}
	return strings.Repeat("0", max(0, 19-len(number))) + number
}

// brief is a record in lists of versions: with its version in the ARN, and
// without what only Get answers.
func brief(rec *record) *types.FunctionConfiguration {
	cfg := rec.describe()
	cfg.State, cfg.StateReason, cfg.StateReasonCode = "", nil, ""
	cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = "", nil, ""
	if *cfg.Version == firn.Latest {
		cfg.FunctionArn = ptr(*cfg.FunctionArn + ":" + firn.Latest)
	}
	return cfg
}

// deleteVersion deletes one published version that no alias needs. One that is
// not there is deleted already.
func (c *Control) deleteVersion(ctx context.Context, ref firn.FunctionRef) error {
	return c.edit(ctx, ref, func(e *edit) error {
		q := ref.Qualifier
		if e.versions[q] == nil {
			return nil
		}
		var users []string
		for _, name := range sortedKeys(e.aliases) {
			if a := e.aliases[name]; a.Version == q || a.weighs(q) {
				users = append(users, name)
			}
		}
		if len(users) > 0 {
			return firn.Faultf(firn.ResourceConflict, "Unable to delete version because the following aliases reference it: [%s]", strings.Join(users, ", "))
		}
		drop(e, &e.versions, kindVersion, q)
		e.dropQualifier(q)
		return nil
	})
}

// aliasName reports whether a qualifier could be the name of an alias.
func aliasName(qualifier string) bool {
	return qualifier != "" && !isVersion(qualifier) && !strings.Contains(qualifier, "$")
}

// isVersion tells the number of a version from the name of an alias.
func isVersion(qualifier string) bool {
	return qualifier != "" && strings.Trim(qualifier, "0123456789") == ""
}
