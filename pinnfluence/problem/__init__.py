"""What a problem consists of: equations, domain, sampling, network, schedule, drawing."""
