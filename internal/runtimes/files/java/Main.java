package run.firn;

import com.amazonaws.services.lambda.runtime.api.client.AWSLambda;

/** Hands over to the runtime interface client with the handler that _HANDLER names when Java has begun. */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws Throwable {
        String handler = System.getenv("_HANDLER");
        AWSLambda.main(new String[] {handler == null ? "" : handler});
    }
}
