"""Networks side by side on one picture: details, figures of merit, and how much blur each leaves."""
