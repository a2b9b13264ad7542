package oci

import (
	"errors"

	"github.com/firn-run/firn"
)

// Fault says in AWS's words why the image that a caller has named cannot be
// used; uri is what the caller wrote. Errors that are not the image's fault,
// and those that are Faults already, come back as they are.
func Fault(uri string, err error) error {
	if err == nil || firn.KindOf(err) != "" {
		return err
	}
	fault := func(kind firn.Kind, message string) error {
		return &firn.Fault{Kind: kind, Op: "resolve image", Message: message, Cause: err}
	}
	var platform *PlatformError
	switch {
	case errors.Is(err, ErrReference):
		return fault(firn.InvalidParameterValue, "Source image "+uri+" is not valid. Provide a valid source image.")
	case errors.Is(err, ErrNotFound):
		return fault(firn.InvalidParameterValue, "Source image "+uri+" does not exist. Provide a valid source image.")
	case errors.Is(err, ErrDenied):
		return fault(firn.AccessDenied, "Lambda does not have permission to access the ECR image. Check the ECR permissions.")
	case errors.As(err, &platform):
		return fault(firn.InvalidParameterValue, unsupported(uri)+" "+"The function runs on "+platform.Want+", and "+platform.Error()+".")
	case errors.Is(err, ErrUnsupported):
		return fault(firn.InvalidParameterValue, unsupported(uri))
	case errors.Is(err, ErrInvalid):
		return fault(firn.InvalidParameterValue, "Source image "+uri+" is not valid. Provide a valid source image.")
	}
	return err
}

func unsupported(uri string) string {
	return "The image manifest, config or layer media type for the source image " + uri + " is not supported."
}
