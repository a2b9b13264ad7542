package firn

// Identity is who made a request: the principal that its signature proved. It
// is a plain value: package keyring makes it from an access key, package
// awswire carries it to the operation, and policies are evaluated against it.
type Identity struct {
	// ARN is the principal's name: arn:aws:iam::ACCOUNT:root,
	// arn:aws:iam::ACCOUNT:user/NAME or
	// arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION.
	ARN string
	// Account is the twelve digits of the account that the principal is of.
	Account string
	// AccessKeyID is the key that signed the request; empty when
	// authentication is off.
	AccessKeyID string
	// Root is true for the account's root user, to whom everything of the
	// account is allowed.
	Root bool
}
