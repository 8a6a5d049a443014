"""RabbitMQ: connections, queues, credentials, and the messages of Globus Compute."""
