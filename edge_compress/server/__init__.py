"""The gRPC server: servicers that translate and delegate, the job queue, and the app that joins everything."""
